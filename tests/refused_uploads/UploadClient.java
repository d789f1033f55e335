import java.io.BufferedInputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Java's own HttpClient as it comes, with HTTP/2 asked for. Arguments: the URL, the boundary, how many at once, and a file with a line
 * of tab-separated fields for each upload: reason, token, whether chunked, and the file that holds the whole form.
 */
public class UploadClient {
    private static final Pattern CODE = Pattern.compile("\"code\"\\s*:\\s*\"([a-z0-9_]+)\"");

    public static void main(String[] given) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        ExecutorService pool = Executors.newFixedThreadPool(Integer.parseInt(given[2]));
        for (String line : Files.readAllLines(Path.of(given[3]))) {
            String[] fields = line.split("\t", -1);
            pool.submit(() -> tell(fields[0], send(client, given[0], given[1], fields)));
        }
        pool.shutdown();
        pool.awaitTermination(1, TimeUnit.HOURS);
    }

    private static String send(HttpClient client, String url, String boundary, String[] fields) {
        Path body = Path.of(fields[3]);
        try {
            HttpRequest request = HttpRequest.newBuilder(URI.create(url))
                .header("Authorization", "Bearer " + fields[1])
                .header("Content-Type", "multipart/form-data; boundary=" + boundary)
                .timeout(Duration.ofSeconds(120))
                .POST(fields[2].equals("chunked")
                    ? HttpRequest.BodyPublishers.ofInputStream(() -> open(body))
                    : HttpRequest.BodyPublishers.ofFile(body))
                .build();
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            Matcher code = CODE.matcher(answer.body());
            return "\"status\": " + answer.statusCode() + ", \"code\": \"" + (code.find() ? code.group(1) : "") + "\"";
        } catch (IOException | InterruptedException error) {
            String text = (error.getClass().getSimpleName() + ": " + error.getMessage()).replaceAll("[\"\\\\\\p{Cntrl}]", " ");
            return "\"error\": \"" + text + "\"";
        }
    }

    private static BufferedInputStream open(Path path) {
        try {
            return new BufferedInputStream(Files.newInputStream(path));
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    private static synchronized void tell(String reason, String said) {
        System.out.println("{\"reason\": \"" + reason + "\", " + said + "}");
    }
}
