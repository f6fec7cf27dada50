package ringgate.runner;

import com.google.gson.Gson;
import org.apache.apisix.plugin.runner.HttpRequest;
import org.apache.apisix.plugin.runner.HttpResponse;
import org.apache.apisix.plugin.runner.filter.PluginFilter;
import org.apache.apisix.plugin.runner.filter.PluginFilterChain;
import org.springframework.stereotype.Component;

/** Answers with a text, if it has one. */
@Component
public class Say implements PluginFilter {
    private static final Gson GSON = new Gson();

    private static class Conf {
        String body = "";
    }

    @Override
    public String name() {
        return "say";
    }

    @Override
    public void filter(HttpRequest request, HttpResponse response, PluginFilterChain chain) {
        String body = GSON.fromJson(request.getConfig(this), Conf.class).body;
        if (body.isEmpty()) {
            chain.filter(request, response);
            return;
        }
        response.setHeader("X-Resp-A6-Runner", "Java");
        response.setStatusCode(200);
        response.setBody(body);
    }
}
